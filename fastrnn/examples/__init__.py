"""Programs to run as `python -m fastrnn.examples.NAME`: cumsum, echo, frames, imdb, mnist."""
