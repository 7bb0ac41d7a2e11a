//! A disk that lies as real ones do.
