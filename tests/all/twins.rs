//! Client and server are twins: through both, a store keeps the contract that it keeps by itself.

use std::sync::Arc;

use polyarch::oci::server::{Access, router, serve};
use polyarch::oci::{Client, ClientOptions, Layout, Memory, Store};
use tokio::net::TcpListener;

use crate::store::keeps_the_contract;

/// A client of a server over a store.
async fn client_of(store: Arc<dyn Store>, options: ClientOptions) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(serve(listener, router(store, Access::open()), std::future::pending()));
    Client::new(&address, options).unwrap()
}

#[tokio::test]
async fn memory_behind_a_registry_keeps_the_contract() {
    keeps_the_contract(&client_of(Arc::new(Memory::new()), ClientOptions::default()).await).await;
}

#[tokio::test]
async fn a_folder_behind_a_registry_keeps_the_contract_in_small_chunks() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::open(folder.path().join("store")).unwrap();
    let options = ClientOptions { chunk: 64 << 10, ..ClientOptions::default() };
    keeps_the_contract(&client_of(Arc::new(layout), options).await).await;
}
