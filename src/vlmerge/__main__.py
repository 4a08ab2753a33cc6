"""`python -m vlmerge` is `vlmerge`."""

from vlmerge.cli import main


def run() -> None:
    """Entry point of the installed program."""
    main(own_process=True)


if __name__ == "__main__":
    run()
