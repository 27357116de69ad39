//! Connections on which what their acceptor says is withheld.

use super::*;

/// A connection whose acceptor has had news, which the other end knows.
async fn watched(scene: &Scene) -> (TcpStream, TcpStream) {
    let (mut client, mut server) = scene.pair().await;
    client.write_u8(b'?').await.unwrap();
    server.read_u8().await.unwrap();
    scene.sleep(s(2)).await;
    server.write_u8(b'0').await.unwrap();
    client.read_u8().await.unwrap();
    (client, server)
}

pub async fn what_is_withheld_waits_and_comes_out_at_once(scene: Scene) {
    let (mut client, mut server) = watched(&scene).await;
    server.write_u8(b'1').await.unwrap();
    let withheld = scene.world.withhold(scene.b, 80, 0).unwrap();
    for byte in b"23" {
        server.write_u8(*byte).await.unwrap();
        scene.sleep(s(20)).await;
    }
    assert_eq!(client.read_u8().await.unwrap(), b'1', "it had left before");
    assert!(timeout(s(1), client.read_u8()).await.is_err());
    assert_eq!((scene.world.withheld(scene.b), scene.world.withheld(scene.a)), (2, 0));
    client.write_u8(b'?').await.unwrap();
    let (heard, took) = scene.time(server.read_u8()).await;
    assert!(heard.unwrap() == b'?' && about(took, ms(10)), "the other direction is left alone: {took:?}");
    scene.world.deliver(withheld);
    let mut bytes = [0; 2];
    let (_, took) = scene.time(client.read_exact(&mut bytes)).await;
    assert!(&bytes == b"23" && about(took, ms(10)), "{bytes:?} {took:?}");
    server.write_u8(b'4').await.unwrap();
    let (heard, took) = scene.time(client.read_u8()).await;
    assert!(heard.unwrap() == b'4' && about(took, ms(10)), "{took:?}");
    assert_eq!(scene.world.withheld(scene.b), 2);
}

pub async fn news_are_withheld_from_one_alone_and_answers_from_nobody(scene: Scene) {
    let first = watched(&scene).await;
    let second = watched(&scene).await;
    let (mut asks, mut answers) = scene.pair().await;
    asks.write_u8(b'?').await.unwrap();
    answers.write_u8(b'!').await.unwrap();
    asks.read_u8().await.unwrap();
    assert_eq!(scene.world.withhold(scene.b, 81, 0), None);
    assert_eq!(scene.world.withhold(scene.a, 80, 0), None);
    // The second one spoke last and is number 0, the first one is number 1.
    let withheld = scene.world.withhold(scene.b, 80, 3).unwrap();
    let mut heard = Vec::new();
    for (mut listens, mut speaks) in [first, second, (asks, answers)] {
        speaks.write_u8(b'1').await.unwrap();
        heard.push(timeout(s(5), listens.read_u8()).await.is_ok());
        drop((speaks, listens));
        scene.sleep(s(1)).await;
    }
    assert_eq!(heard, [false, true, true]);
    scene.world.deliver(withheld);
    scene.sleep(s(1)).await;
    assert_eq!(scene.world.stats().network.live_connections, 0);
}

pub async fn each_withholding_has_a_connection_of_its_own(scene: Scene) {
    let mut pairs = [watched(&scene).await, watched(&scene).await];
    let withheld = [1, 1].map(|nth| scene.world.withhold(scene.b, 80, nth).unwrap());
    assert_ne!(withheld[0], withheld[1]);
    assert_eq!(scene.world.withhold(scene.b, 80, 0), None, "there is no third one");
    scene.world.deliver(withheld[1]);
    let mut heard = Vec::new();
    for (client, server) in &mut pairs {
        server.write_u8(b'1').await.unwrap();
        heard.push(timeout(s(5), client.read_u8()).await.is_ok());
    }
    assert_eq!(heard, [false, true], "the first one was number 1, and then the second one was all there was");
}

pub async fn the_end_of_a_stream_and_a_reset_are_withheld_too(scene: Scene) {
    let (mut client, server) = watched(&scene).await;
    let withheld = scene.world.withhold(scene.b, 80, 0).unwrap();
    drop(server);
    assert!(timeout(s(60), client.read_u8()).await.is_err());
    scene.world.deliver(withheld);
    assert_eq!(kind(client.read_u8().await), Some(ErrorKind::UnexpectedEof));
    drop(client);
    let (mut client, mut server) = watched(&scene).await;
    let withheld = scene.world.withhold(scene.b, 80, 0).unwrap();
    server.write_u8(b'1').await.unwrap();
    scene.world.kill(scene.b);
    scene.world.restart(scene.b);
    client.write_u8(b'?').await.unwrap();
    assert!(timeout(s(60), client.read_u8()).await.is_err());
    scene.world.deliver(withheld);
    // Its kernel had the byte still, and lost it when it was asked by somebody of whom it knew no more.
    assert_eq!(kind(client.read_u8().await), Some(ErrorKind::ConnectionReset));
}

pub async fn who_gives_up_meanwhile_is_not_told_later(scene: Scene) {
    let (client, mut server) = watched(&scene).await;
    let withheld = scene.world.withhold(scene.b, 80, 0).unwrap();
    server.write_u8(b'1').await.unwrap();
    drop(client);
    assert_eq!(kind(server.read_u8().await), Some(ErrorKind::UnexpectedEof));
    scene.world.deliver(withheld);
    scene.sleep(s(1)).await;
    assert_eq!(kind(server.write_u8(b'2').await), Some(ErrorKind::ConnectionReset), "nobody there");
    drop(server);
    let (mut client, mut server) = scene.pair().await;
    scene.world.deliver(withheld);
    server.write_u8(b'3').await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'3', "another connection of the same number");
    drop((client, server));
    scene.sleep(s(1)).await;
    assert_eq!(scene.world.stats().network.live_connections, 0);
}
