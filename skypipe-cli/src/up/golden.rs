//! Files that say what users get. A change of what is made shows in them.

/// Compares `text` with the file of this name. Set `SKYPIPE_GOLDEN` to write it anew.
#[track_caller]
pub(super) fn golden(name: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/up/golden").join(name);
    if std::env::var_os("SKYPIPE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == text, "{} is not what is made now:\n{text}", path.display());
}
