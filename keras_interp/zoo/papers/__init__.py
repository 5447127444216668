"""The models of each paper: one file for each, with what is measured of them."""
