//! F-R21: registries whose certificates or versions of TLS cannot be trusted. The authority of these tests signed all
//! of the certificates but `itself.pem`; one of them is right. Their one key is of no use elsewhere.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use polyarch::oci::{Client, ClientOptions, Digest, ErrorKind, PlainHttp, Repository, Store};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

const AUTHORITY: &[u8] = include_bytes!("tls/authority.pem");
const KEY: &[u8] = include_bytes!("tls/key.pem");

/// A registry that has one blob of one byte, behind TLS.
async fn registry(certificate: &[u8]) -> String {
    let certificates = vec![CertificateDer::from_pem_slice(certificate).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(KEY).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(certificates, key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { return };
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ =
                stream.write_all(b"HTTP/1.1 200 x\r\ncontent-length: 1\r\nconnection: close\r\n\r\n").await;
            let _ = stream.shutdown().await;
        }
    });
    address
}

fn client(address: &str, authorities: &[&'static [u8]]) -> Client {
    let options = ClientOptions {
        plain_http: PlainHttp::Never,
        patience: Duration::from_secs(60),
        authorities: authorities.iter().map(|pem| Bytes::from_static(pem)).collect(),
        ..ClientOptions::default()
    };
    Client::new(address, options).unwrap()
}

async fn ask(client: &Client) -> Result<Option<u64>, polyarch::oci::Error> {
    let repository: Repository = "a/b".parse().unwrap();
    client.blob_size(&repository, &Digest::of(b"x")).await
}

#[tokio::test]
async fn f_r21_only_a_certificate_that_is_right_is_trusted() {
    let good = registry(include_bytes!("tls/good.pem")).await;
    assert_eq!(ask(&client(&good, &[AUTHORITY])).await.unwrap(), Some(1));
    type Case<'a> = (&'a str, &'a [u8], &'a [&'static [u8]]);
    let refused: [Case; 4] = [
        ("expired", include_bytes!("tls/expired.pem"), &[AUTHORITY]),
        ("of another host", include_bytes!("tls/other.pem"), &[AUTHORITY]),
        ("signed by itself", include_bytes!("tls/itself.pem"), &[AUTHORITY]),
        ("of an unknown authority", include_bytes!("tls/good.pem"), &[]),
    ];
    for (what, certificate, authorities) in refused {
        let address = registry(certificate).await;
        let error = ask(&client(&address, authorities)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed, "{what}: {error:?}");
        assert!(error.to_string().contains("refused by this side"), "{what}: {error}");
    }
}

#[tokio::test]
async fn f_r21_old_versions_of_tls_are_refused_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        loop {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let mut hello = [0; 4096];
            let _ = stream.read(&mut hello).await;
            // A fatal alert of a server that speaks TLS 1.0: protocol_version.
            let _ = stream.write_all(&[21, 3, 1, 0, 2, 2, 70]).await;
            let _ = stream.shutdown().await;
        }
    });
    let error = ask(&client(&address, &[AUTHORITY])).await.unwrap_err();
    assert!(error.to_string().contains("TLS 1.2"), "{error:?}");
    assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[tokio::test]
async fn f_r21_https_is_never_given_up_for_http() {
    // A registry that speaks http where https is wanted.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            let mut hello = [0; 4096];
            let count = stream.read(&mut hello).await.unwrap_or(0);
            assert!(!hello[..count].starts_with(b"HEAD"), "it was asked in clear");
            let _ = stream.write_all(b"HTTP/1.1 200 x\r\ncontent-length: 1\r\n\r\n").await;
        }
    });
    assert_eq!(ask(&client(&address, &[AUTHORITY])).await.unwrap_err().kind(), ErrorKind::Failed);
}
