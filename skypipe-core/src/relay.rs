//! Serves any broker over any listener.
