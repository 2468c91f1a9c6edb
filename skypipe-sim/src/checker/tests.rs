//! Wrong histories, which each rule must refuse.
