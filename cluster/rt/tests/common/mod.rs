//! A small world for tests: two hosts whose processes do nothing by themselves, on links of ten milliseconds.
#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing where it stands")]
#![allow(dead_code, reason = "not every test file uses all of it")]

use std::future::{Future, pending};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::time::Duration;

use rt::net::{TcpListener, TcpStream};
use rt::random::{self, Random};
use rt::sim::{self, Config, HostId, LinkConfig, Panicked, World};

/// A round number of milliseconds.
pub fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A round number of seconds.
pub fn s(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Ten milliseconds, exactly.
pub fn lan() -> LinkConfig {
    LinkConfig { delay: ms(10), jitter: Duration::ZERO, ..LinkConfig::default() }
}

/// A world on such links.
pub fn config() -> Config {
    Config { seed: 1, executor_seed: 1, link: lan(), ..Config::default() }
}

/// The test of this name asserts that what `run` sees is the same in this process and in others, which run that test too.
pub fn same_in_other_processes(test: &str, run: impl Fn() -> String) {
    const CHILD: &str = "RT_TEST_CHILD";
    const SAW: &str = "saw ";
    if std::env::var_os(CHILD).is_some() {
        println!("{SAW}{:?}", run());
        return;
    }
    let other = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let output = command.args([test, "--exact", "--nocapture"]).env(CHILD, "1").output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        text.lines().find_map(|line| Some(line.split_once(SAW)?.1.to_owned()))
    };
    let first = other();
    assert_eq!(first, other());
    assert_eq!(first.unwrap(), format!("{:?}", run()));
}

/// Two hosts.
#[derive(Clone)]
pub struct Scene {
    pub world: World,
    pub a: HostId,
    pub b: HostId,
}

/// Where `b` serves.
pub const B: &str = "10.0.0.2:80";

impl Scene {
    pub fn new(world: World) -> Scene {
        let a = idle_host(&world, "a", 1);
        let b = idle_host(&world, "b", 2);
        Scene { world, a, b }
    }

    /// Runs `future` in the process of `host` and waits for it.
    pub async fn on<F>(&self, host: HostId, future: F) -> F::Output
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.world.spawn_on(host, "test", future).await.unwrap()
    }

    pub async fn sleep(&self, duration: Duration) {
        self.world.sleep(duration).await;
    }

    /// How long `future` takes in true time.
    pub async fn time<F: Future>(&self, future: F) -> (F::Output, Duration) {
        let start = self.world.now_ns();
        let output = future.await;
        (output, Duration::from_nanos(self.world.now_ns() - start))
    }

    pub async fn connect(&self) -> io::Result<TcpStream> {
        self.on(self.a, TcpStream::connect(B)).await
    }

    pub async fn listen(&self) -> TcpListener {
        self.on(self.b, TcpListener::bind("0.0.0.0:80")).await.unwrap()
    }

    /// A connection from `a` to `b`, whose listener is gone.
    pub async fn pair(&self) -> (TcpStream, TcpStream) {
        let listener = self.listen().await;
        let accepted = self.world.spawn_on(self.b, "accept", async move { listener.accept().await });
        let client = self.connect().await.unwrap();
        (client, accepted.await.unwrap().unwrap().0)
    }

    /// Faults of all kinds, and an end to them. Who would lose process or power, `dies` may spare and name another one.
    pub async fn torment(&self, dies: impl Fn(HostId) -> HostId) {
        let (world, a, b) = (&self.world, self.a, self.b);
        let mut random: Random = random::stream("torment");
        for _ in 0..60 {
            let (from, to) = if random.chance(500) { (a, b) } else { (b, a) };
            match random.below(12) {
                0 => world.cut(from, to),
                1 => world.hold(from, to),
                2 => world.release(from, to),
                3 => world.pause(to),
                4 => world.resume(to),
                5 => world.set_rate(to, 500 + random.below(1000) as u32),
                6 => world.restart(dies(to)),
                7 => {
                    world.power_off(dies(to));
                    world.sleep(random.jitter(s(5))).await;
                    world.power_on(dies(to));
                }
                _ => world.heal(from, to),
            }
            world.sleep(random.jitter(s(3))).await;
        }
        self.join();
        for (from, to) in [(a, b), (b, a)] {
            world.release(from, to);
            world.resume(to);
            world.set_rate(to, 1000);
        }
    }

    /// Nothing passes between the two.
    pub fn part(&self) {
        self.world.cut(self.a, self.b);
        self.world.cut(self.b, self.a);
    }

    pub fn join(&self) {
        self.world.heal(self.a, self.b);
        self.world.heal(self.b, self.a);
    }
}

/// A host whose process waits for what others run in it.
pub fn idle_host(world: &World, name: &str, last: u8) -> HostId {
    let host = world.add_host(name, IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)));
    world.start(host, || Box::pin(pending()));
    host
}

/// Runs `scene` with two hosts.
pub fn with_two<T, Fut>(config: Config, scene: impl FnOnce(Scene) -> Fut + Send + 'static) -> Result<T, Panicked>
where
    T: Send + 'static,
    Fut: Future<Output = T>,
{
    sim::run(config, |world| async move { scene(Scene::new(world)).await })
}

/// What kind of failure it was.
pub fn kind<T>(result: io::Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

/// Whether `took` is `expected`, give or take half a millisecond for the executor's steps.
pub fn about(took: Duration, expected: Duration) -> bool {
    took.abs_diff(expected) < Duration::from_micros(500)
}
