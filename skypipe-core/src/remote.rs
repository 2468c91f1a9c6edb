//! A relay somewhere else, as a broker.
