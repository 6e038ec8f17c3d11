"""What is wrong with a table of embeddings, and what is normal: `lossgauge diagnose` and `lossgauge.diagnose`.

The folder is not called `diagnose`: a submodule of that name would replace the function on import.
"""
