//! Content that rots under a served store (F-S1).

use polyarch::oci::{
    Client, ClientOptions, Descriptor, Digest, Memory, Origin, Repository, Store as _, Taken,
};

use super::{Asker, Failed, Server};
use crate::program::Place;

#[tokio::test]
async fn f_s1_the_connection_is_cut_before_broken_bytes_are_complete() {
    let place = Place::new();
    let server = Server::start(&place);
    let asker = Asker::new(&server, "rot");
    for whole in [vec![7; 3 << 20], b"short".to_vec()] {
        let digest = asker.push_blob(&whole, false).await.expect("taken");
        let file = place.store().join("blobs/sha256").join(digest.hex());
        let mut broken = whole.clone();
        broken[1] ^= 1;
        std::fs::write(&file, &broken).expect("rot");
        match asker.blob(&digest).await {
            Err(Failed::Lost(_)) => {}
            other => panic!("no clean end: {other:?}"),
        }
        match asker.blob(&digest).await {
            Err(Failed::Answered(status, _)) => assert_eq!(status.as_u16(), 404, "it is set aside"),
            other => panic!("not there any more: {other:?}"),
        }
        asker.push_blob(&whole, true).await.expect("pushed again");
        assert_eq!(Digest::of(&asker.blob(&digest).await.expect("healed")), digest);
    }
}

#[tokio::test]
async fn f_s1_what_a_disk_has_cut_short_is_sent_again_by_the_next_push() {
    let place = Place::new();
    let server = Server::start(&place);
    let client = || Client::new(&server.address, ClientOptions::default()).unwrap();
    let (whole, source) = (vec![7; 200 << 10], Memory::new());
    let (here, there): (Repository, Repository) = ("rot".parse().unwrap(), "other".parse().unwrap());
    let digest = source.write_blob(&here, whole.clone().into()).await.unwrap();
    let blob = Descriptor::new("application/octet-stream", digest.clone(), whole.len() as u64);
    let origin = Origin { store: &source, repository: &here };
    let sent = Taken::Moved(blob.size);
    assert_eq!(client().take_blob(&here, &blob, None, &origin).await.unwrap(), sent);
    let file = place.store().join("blobs/sha256").join(digest.hex());
    for (to, from) in [(&here, None), (&there, Some(&here))] {
        std::fs::write(&file, &whole[..1000]).expect("cut short");
        assert_eq!(client().take_blob(to, &blob, from, &origin).await.unwrap(), sent, "{to}");
        assert_eq!(std::fs::read(&file).expect("there"), whole, "{to}");
        assert_eq!(client().take_blob(to, &blob, None, &origin).await.unwrap(), Taken::There, "{to}");
    }
}
