//! What a host's kernel and resolver were told: added addresses, redirects, names.

use super::*;
use imbl::OrdMap;
use rt::net::{Backends, Names, Redirects, add_address, remove_address, set_names, set_redirects};
use std::net::{IpAddr, SocketAddr};

const POD: &str = "10.1.0.7:80";
const SERVICE: &str = "10.96.0.1:80";

fn ip(address: &str) -> IpAddr {
    address.parse::<SocketAddr>().unwrap().ip()
}

fn redirects(to: &[&str], affinity: Option<Duration>) -> Redirects {
    let to = to.iter().map(|to| to.parse().unwrap()).collect();
    Redirects(OrdMap::unit(SERVICE.parse().unwrap(), Arc::new(Backends { to, affinity })))
}

/// Serves `address` on `b`, which answers each connection with `name`.
async fn serve(scene: &Scene, address: &'static str, name: u8) {
    let listener = scene.on(scene.b, TcpListener::bind(address)).await.unwrap();
    scene.world.spawn_on(scene.b, "server", async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_u8(name).await.unwrap();
        }
    });
}

/// Who answers a connection from `a` to `address`.
async fn ask(scene: &Scene, address: &'static str) -> Result<u8, ErrorKind> {
    let asked = async move {
        TcpStream::connect(address).await.map_err(|error| error.kind())?.read_u8().await.map_err(|error| error.kind())
    };
    scene.on(scene.a, timeout(s(20), asked)).await.unwrap_or(Err(ErrorKind::TimedOut))
}

pub async fn an_added_address_is_a_namespace_of_its_own(scene: Scene) {
    scene.on(scene.b, async { add_address(ip(POD)) }).await.unwrap();
    serve(&scene, "0.0.0.0:80", 1).await;
    assert_eq!(ask(&scene, POD).await, Err(ErrorKind::ConnectionRefused));
    serve(&scene, POD, 2).await;
    assert_eq!((ask(&scene, B).await, ask(&scene, POD).await), (Ok(1), Ok(2)));
    assert_eq!(
        scene.on(scene.a, async { add_address(ip(POD)) }).await.map_err(|error| error.kind()),
        Err(ErrorKind::AddrInUse)
    );
    scene.on(scene.b, async { remove_address(ip(POD)) }).await;
    assert_eq!((ask(&scene, B).await, ask(&scene, POD).await), (Ok(1), Err(ErrorKind::HostUnreachable)));
}

pub async fn an_added_address_outlives_the_process_and_not_a_reboot(scene: Scene) {
    scene.on(scene.b, async { add_address(ip(POD)) }).await.unwrap();
    serve(&scene, POD, 1).await;
    scene.world.restart(scene.b);
    assert_eq!(ask(&scene, POD).await, Err(ErrorKind::ConnectionRefused));
    scene.world.power_off(scene.b);
    assert_eq!(ask(&scene, POD).await, Err(ErrorKind::TimedOut), "a host without power says nothing");
    scene.world.power_on(scene.b);
    assert_eq!(ask(&scene, POD).await, Err(ErrorKind::HostUnreachable));
}

pub async fn a_redirected_connection_goes_to_one_of_its_backends(scene: Scene) {
    serve(&scene, "0.0.0.0:81", 1).await;
    serve(&scene, "0.0.0.0:82", 2).await;
    let set = |table: Redirects| scene.on(scene.a, async move { set_redirects(table) });
    set(redirects(&["10.0.0.2:81", "10.0.0.2:82"], None)).await.unwrap();
    let mut seen = [0; 3];
    for _ in 0..40 {
        seen[usize::from(ask(&scene, SERVICE).await.unwrap())] += 1;
    }
    assert!(seen[1] > 5 && seen[2] > 5, "{seen:?}");
    set(redirects(&["10.0.0.2:81", "10.0.0.2:82"], Some(s(10)))).await.unwrap();
    let first = ask(&scene, SERVICE).await;
    for _ in 0..10 {
        scene.sleep(s(5)).await;
        assert_eq!(ask(&scene, SERVICE).await, first);
    }
    set(redirects(&[], None)).await.unwrap();
    assert_eq!(ask(&scene, SERVICE).await, Err(ErrorKind::ConnectionRefused));
    assert_eq!(
        scene.on(scene.b, TcpStream::connect(SERVICE)).await.err().map(|error| error.kind()),
        Some(ErrorKind::HostUnreachable),
        "another host has another table"
    );
}

pub async fn told_names_resolve_until_a_reboot(scene: Scene) {
    let table = OrdMap::unit("web.example".to_owned(), Arc::from([ip("10.0.0.2:1"), ip("10.0.0.3:1")]));
    let names = Names { table, dashed_under: None };
    scene.on(scene.a, async { set_names(names) }).await.unwrap();
    let found = scene.on(scene.a, lookup_host("Web.example:80")).await.unwrap();
    assert_eq!(found.len(), 2);
    assert!(found.contains(&B.parse().unwrap()), "{found:?}");
    assert!(scene.on(scene.b, lookup_host("web.example:80")).await.is_err());
    scene.world.power_off(scene.a);
    scene.world.power_on(scene.a);
    assert_eq!(
        scene.on(scene.a, lookup_host("web.example:80")).await.map_err(|error| error.kind()),
        Err(ErrorKind::NotFound)
    );
}

pub async fn a_reset_is_told_to_both_ends_and_new_connections_work(scene: Scene) {
    let (mut client, mut server) = scene.pair().await;
    client.write_u8(1).await.unwrap();
    scene.world.reset(scene.b, scene.a);
    assert_eq!(kind(client.read_u8().await), Some(ErrorKind::ConnectionReset));
    assert_eq!(kind(server.read_u8().await), Some(ErrorKind::ConnectionReset));
    serve(&scene, B, 3).await;
    assert_eq!(ask(&scene, B).await, Ok(3));
}
