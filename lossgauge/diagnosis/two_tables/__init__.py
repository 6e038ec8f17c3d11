"""The diagnosis of two tables of embeddings: queries, and the documents that they are searched in."""
