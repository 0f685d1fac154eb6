"""Sum-product algebra: what regions of multilinear operators compute, whichever way it is spelled."""
