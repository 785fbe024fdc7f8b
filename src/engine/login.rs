//! The password of a store, for clients that read it from a file.

use base64::Engine as _;

use super::{Redactor, StoreAddress};

/// The file of passwords that clients of registries read, with that of a store where one is needed.
pub(super) fn text(store: Option<&StoreAddress>) -> String {
    let auths: serde_json::Map<_, _> = store
        .map(|store| {
            let login = base64::engine::general_purpose::STANDARD.encode(pair(store));
            (store.registry.clone(), serde_json::json!({ "auth": login }))
        })
        .into_iter()
        .collect();
    serde_json::json!({ "auths": auths }).to_string()
}

/// User and password as HTTP's basic authentication has them.
fn pair(store: &StoreAddress) -> String {
    format!("{}:{}", store.user, store.password.expose())
}

/// Hides the password of a store, in both forms that a client may show.
pub(super) fn redactor(store: &StoreAddress, secrets: impl IntoIterator<Item = Vec<u8>>) -> Redactor {
    let login = base64::engine::general_purpose::STANDARD.encode(pair(store));
    let own = [store.password.expose().as_bytes().to_vec(), login.into_bytes()];
    Redactor::new(own.into_iter().chain(secrets))
}
