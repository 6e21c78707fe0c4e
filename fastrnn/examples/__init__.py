"""Programs to run as `python -m fastrnn.examples.NAME`: attention, cumsum, echo, frames, imdb,
mnist."""
