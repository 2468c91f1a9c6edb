//! Who gets what: the modes as pure state machines.
