//! skypipe over WebSocket.
mod mux;
