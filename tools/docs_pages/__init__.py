"""Parts of tools/make_docs.py: the pages of recipe keys, and the drawing of the package."""
