//! The writing end of a pipe.
