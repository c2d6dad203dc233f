"""One module per chapter: what it measures, as functions of a text or a model."""
