"""vlmerge: evolve a vision-language model by merging, and prove that it got better."""

__version__ = "0.1.0"
