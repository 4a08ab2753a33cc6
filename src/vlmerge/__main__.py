"""`python -m vlmerge` is `vlmerge`."""

from vlmerge.cli import main

main()
