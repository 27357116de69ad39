//! Connections that are reset in the middle of what their acceptor says.

use super::*;

pub async fn a_fuse_resets_a_connection_in_the_middle_of_what_its_acceptor_says(scene: Scene) {
    let (mut client, mut server) = scene.pair().await;
    server.write_all(b"before").await.unwrap();
    scene.world.fuse(scene.b, 80, 5);
    server.write_all(b"123").await.unwrap();
    assert_eq!(scene.world.fuses_blown(scene.b), 0);
    server.write_all(b"4567").await.unwrap();
    assert_eq!((scene.world.fuses_blown(scene.b), scene.world.fuses_blown(scene.a)), (1, 0));
    let mut bytes = [0; 11];
    let (_, took) = scene.time(client.read_exact(&mut bytes)).await;
    assert!(&bytes == b"before12345" && about(took, ms(10)), "what passes travels as ever: {bytes:?} {took:?}");
    assert_eq!(kind(client.read_u8().await), Some(ErrorKind::ConnectionReset));
    assert_eq!(kind(server.write_u8(8).await), Some(ErrorKind::ConnectionReset));
    drop((client, server));
    scene.sleep(s(1)).await;
    assert_eq!(scene.world.stats().network.live_connections, 0);
}

pub async fn a_fuse_of_no_bytes_swallows_an_answer_and_not_the_question(scene: Scene) {
    let (mut client, mut server) = scene.pair().await;
    scene.world.fuse(scene.b, 80, 0);
    client.write_u8(7).await.unwrap();
    assert_eq!(server.read_u8().await.unwrap(), 7);
    server.write_u8(8).await.unwrap();
    assert_eq!(kind(timeout(s(20), client.read_u8()).await.unwrap()), Some(ErrorKind::ConnectionReset));
    assert_eq!(kind(server.read_u8().await), Some(ErrorKind::ConnectionReset));
}

pub async fn a_fuse_leaves_alone_what_it_is_not_put_into(scene: Scene) {
    let (mut client, mut server) = scene.pair().await;
    scene.world.fuse(scene.b, 81, 0);
    scene.world.fuse(scene.a, 80, 0);
    scene.world.fuse(scene.b, 80, 1);
    scene.world.fuse(scene.b, 80, 9);
    scene.world.defuse(scene.b);
    server.write_all(b"12").await.unwrap();
    client.read_exact(&mut [0; 2]).await.unwrap();
    scene.world.fuse(scene.b, 80, 0);
    let (mut later, mut accepted) = scene.pair().await;
    accepted.write_u8(1).await.unwrap();
    assert_eq!(later.read_u8().await.unwrap(), 1, "a connection that came afterwards");
    client.write_all(b"12").await.unwrap();
    server.read_exact(&mut [0; 2]).await.unwrap();
    assert_eq!(scene.world.fuses_blown(scene.b), 0);
}
