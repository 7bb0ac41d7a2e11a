//! The Kafka wire format: every message declared once, decoding that is total, encoding without copies.
