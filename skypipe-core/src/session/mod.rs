//! The session that survives a broken link.
