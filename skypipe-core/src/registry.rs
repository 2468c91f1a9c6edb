//! URL schemes and their transports.
