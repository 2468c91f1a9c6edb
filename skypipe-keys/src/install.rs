use std::sync::Arc;

use skypipe_core::{Error, Signer, registry};

use crate::identity;

/// Makes this program prove who its user is to relays on other machines: with the key that `SKYPIPE_KEY` names, else `id_ed25519` in the
/// [user's folder](identity::folder), made on first use. Gives that key.
///
/// # Errors
/// `E_KEY` when the key cannot be used; the text says what to do.
pub fn install() -> Result<Arc<dyn Signer>, Error> {
    let setting = std::env::var("SKYPIPE_KEY").ok();
    let signer = identity::load(setting.as_deref(), &identity::folder()?)?;
    registry::install_signer(signer.clone());
    Ok(signer)
}
