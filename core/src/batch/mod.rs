//! Record batches (magic 2): heads, checksums, records, compression.
