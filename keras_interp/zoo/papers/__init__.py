"""The models of each paper and their metrics, one file per paper."""
