//! The reading end of a pipe.
