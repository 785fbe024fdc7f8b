//! Content that rots under a served store (F-S1).

use polyarch::oci::Digest;

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
