"""Rendered rooms: `source` furnishes them, `render` takes their pictures. Needs nothing but NumPy."""
