"""From a study to a head in production: export it with its manifest, load it, apply it, and say what it costs."""
