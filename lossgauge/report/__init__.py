"""Records in, something to read out: tables, figures, words, and the page that holds them."""
