//! A pipe in the hands of an application.
