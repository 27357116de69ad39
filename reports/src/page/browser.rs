//! The page in a real browser: a headless Chromium opens it from disk and clicks through it, driven by ChromeDriver.
//!
//! Skipped where `chromium` and `chromedriver` are not in the PATH (Debian's packages `chromium` and `chromium-driver`).

use super::tests;
use crate::Report;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A browser without a screen that asks the network for nothing of its own.
const ARGUMENTS: [&str; 9] = [
    "--headless",
    // Chromium refuses to be root with its sandbox, as it is in containers.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
];

/// A browser on a loaded machine answers within this time, or it hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// ChromeDriver and one browser.
struct Browser {
    driver: Child,
    port: u16,
    session: String,
}

impl Browser {
    /// `None` if there is none on this machine.
    fn start() -> Option<Self> {
        let in_path = |name: &str| {
            std::env::split_paths(&std::env::var_os("PATH")?).map(|it| it.join(name)).find(|it| it.is_file())
        };
        let (program, binary) = (in_path("chromedriver")?, in_path("chromium")?);
        let mut driver = Command::new(program).arg("--port=0").stdout(Stdio::piped()).spawn().expect("it starts");
        let mut lines = BufReader::new(driver.stdout.take().expect("a pipe")).lines();
        let said = lines.find_map(|line| {
            let line = line.expect("text");
            Some(line.split_once("successfully on port ")?.1.trim_end_matches('.').to_owned())
        });
        let port = said.expect("it says its port").parse().expect("a number");
        // What it says further goes nowhere, but into an open pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let mut browser = Self { driver, port, session: String::new() };
        let options = json!({"binary": binary, "args": ARGUMENTS});
        let wanted = json!({"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}});
        let made = browser.post("/session", &json!({"capabilities": {"alwaysMatch": wanted}}));
        browser.session = format!("/session/{}", made["sessionId"].as_str().expect("a session"));
        Some(browser)
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{body}"
        )
        .expect("it reads");
        // It keeps the connection open whatever it is asked, so the answer ends where it says.
        let (mut reader, mut length, mut status) = (BufReader::new(stream), 0, String::new());
        reader.read_line(&mut status).expect("a status");
        for line in reader.by_ref().lines().map(|line| line.expect("a head")).take_while(|line| !line.is_empty()) {
            if let Some((_, value)) = line.to_ascii_lowercase().split_once("content-length:") {
                length = value.trim().parse().expect("a number");
            }
        }
        let mut answer = vec![0; length];
        reader.read_exact(&mut answer).expect("the whole answer");
        let answer = String::from_utf8(answer).expect("text");
        assert!(status.starts_with("HTTP/1.1 200"), "{method} {path}: {answer}");
        let mut answer: Value = serde_json::from_str(&answer).expect("JSON");
        answer["value"].take()
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.ask("POST", &format!("{}{path}", self.session), &body.to_string())
    }

    /// What a script returns.
    fn eval(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({"script": format!("return {script}"), "args": []}))
    }

    fn devtools(&self, command: &str, parameters: Value) {
        self.post("/goog/cdp/execute", &json!({"cmd": command, "params": parameters}));
    }

    /// As on a screen of this width, with these colours.
    fn look(&self, width: u32, scheme: &str) {
        let screen = json!({"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600});
        self.devtools("Emulation.setDeviceMetricsOverride", screen);
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.devtools("Emulation.setEmulatedMedia", json!({"media": "", "features": features}));
    }

    /// Until what scrolled has been drawn and everybody has heard of it.
    fn settle(&self) {
        let script = "const [done, frame] = [arguments[0], requestAnimationFrame];
            frame(() => frame(() => frame(() => done(0))));";
        self.post("/execute/async", &json!({"script": script, "args": []}));
    }

    /// Whether it comes to be true within a hundred frames: what the page does on an event may come after the answer to a click.
    fn comes_true(&self, condition: &str) -> bool {
        let script = format!(
            "const [done, frame] = [arguments[0], requestAnimationFrame];
            const look = (left) => ({condition}) ? done(true) : left ? frame(() => look(left - 1)) : done(false);
            look(100);"
        );
        self.post("/execute/async", &json!({"script": script, "args": []})) == true
    }

    fn element(&self, selector: &str) -> String {
        let found = self.post("/element", &json!({"using": "css selector", "value": selector}));
        let id = found.as_object().and_then(|it| it.values().next()).and_then(Value::as_str);
        id.unwrap_or_else(|| panic!("no {selector}")).to_owned()
    }

    /// As a finger or mouse does it: fails if something else is in front.
    fn click(&self, selector: &str) {
        self.post(&format!("/element/{}/click", self.element(selector)), &json!({}));
    }

    fn hover(&self, selector: &str) {
        let origin = json!({"element-6066-11e4-a52e-4f735466cecf": self.element(selector)});
        let to = json!({"type": "pointerMove", "duration": 0, "x": 0, "y": 0, "origin": origin});
        let mouse = json!({"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": [to]});
        self.post("/actions", &json!({"actions": [mouse]}));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends the browser with the session; without one there is none.
        if !self.session.is_empty() && !std::thread::panicking() {
            self.ask("DELETE", &self.session, "");
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn page(folder: &Path) -> String {
    let (summary, trials) = tests::twenty();
    let html = Report { run: &tests::run(), summary: &summary, previous: None }.page(&trials);
    let path = folder.join("index.html");
    fs::write(&path, html).expect("a file");
    format!("file://{}", path.display())
}

/// How much of the contrast between black and white (21) two computed colours have.
const CONTRAST: &str = "((a, b) => {
    const light = (text) => text.match(/[\\d.]+/g).slice(0, 3).map((it) => it / 255)
        .map((it) => it <= 0.04045 ? it / 12.92 : ((it + 0.055) / 1.055) ** 2.4)
        .reduce((sum, it, i) => sum + it * [0.2126, 0.7152, 0.0722][i], 0.05);
    const [x, y] = [light(a), light(b)];
    return Math.max(x, y) / Math.min(x, y);
})";

#[test]
fn a_reader_clicks_through_the_page() {
    let Some(browser) = Browser::start() else {
        eprintln!("SKIPPED: there is no chromium with chromedriver in the PATH (Debian: chromium, chromium-driver)");
        return;
    };
    let folder = Folder(std::env::temp_dir().join(format!("seaworthy-page-{}", std::process::id())));
    fs::create_dir_all(&folder.0).expect("a folder");
    let url = page(&folder.0);

    for (width, scheme) in [(390, "light"), (390, "dark"), (1280, "light"), (1280, "dark")] {
        browser.look(width, scheme);
        browser.post("/url", &json!({"url": url}));
        browser.eval("document.querySelectorAll('details').forEach((it) => it.open = true)");
        assert_eq!(browser.eval("innerWidth"), width, "the screen is as wide as asked for");
        let widest = browser.eval("document.documentElement.scrollWidth");
        assert!(widest.as_u64() <= Some(u64::from(width)), "{widest} px wide at {width} px, {scheme}");
        for selector in ["main h1", "section p.note", ".pill.bad", ".tile small", "pre", ".jump"] {
            let script = format!(
                "(() => {{
                    const it = document.querySelector({selector:?});
                    let ground = it;
                    const clear = (it) => getComputedStyle(it).backgroundColor === 'rgba(0, 0, 0, 0)';
                    while (clear(ground)) ground = ground.parentElement;
                    return {CONTRAST}(getComputedStyle(it).color, getComputedStyle(ground).backgroundColor);
                }})()"
            );
            let contrast = browser.eval(&script).as_f64();
            assert!(contrast >= Some(4.5), "{selector} has a contrast of {contrast:?}, {scheme}");
        }
    }
    let dark = browser.eval("getComputedStyle(document.body).backgroundColor");
    browser.look(1280, "light");
    assert_ne!(browser.eval("getComputedStyle(document.body).backgroundColor"), dark);

    // A phone, and only the first trial open.
    browser.look(390, "light");
    browser.post("/url", &json!({"url": url}));
    let drawn = "getComputedStyle(document.querySelector('#seed-3 .m.fault')).display !== 'none'";
    assert_eq!(browser.eval(drawn), true);
    browser.click("#seed-3 [data-hide=fault]");
    assert_eq!(browser.eval(drawn), false, "what is switched off is gone");
    browser.click("#seed-3 [data-hide=fault]");
    assert_eq!(browser.eval(drawn), true);

    let flag = "document.getElementById('first-3').querySelector('line').getBoundingClientRect().x";
    let seen = format!(
        "(() => {{
            const it = document.querySelector('#seed-3 .scroll').getBoundingClientRect();
            return it.left < {flag} && {flag} < it.right;
        }})()"
    );
    assert_eq!(browser.eval(&seen), false, "the failure is beyond the edge of a phone's screen at first");
    browser.click("#seed-3 .jump");
    assert_eq!(browser.eval(&seen), true, "a jump brings it into sight");
    browser.click("#seed-3 .next");
    assert_eq!(
        browser.eval("document.querySelector('#seed-3 .flag.here > title')?.textContent?.startsWith('C6')"),
        true
    );

    // Its name is written at the mark's beginning, which is out of sight once the reader has scrolled past it.
    let place = "(() => {
        const it = document.querySelector('#seed-3 .scroll');
        const [edge, mark, name] =
            ['.names', '.m.fault > rect', '.m.fault text'].map((part) => it.querySelector(part).getBoundingClientRect());
        return {past: mark.left + mark.width / 2 - edge.right, name: Math.round(name.left - edge.right)};
    })()";
    let past = &browser.eval(place)["past"];
    browser.eval(&format!("document.querySelector('#seed-3 .scroll').scrollBy({past}, 0)"));
    browser.settle();
    assert_eq!(browser.eval(place)["name"], 3, "a name stays in sight");

    browser.click("#seed-3 .jump");
    // At the lower edge of the screen a hover would scroll, and what scrolls has no tip.
    browser.eval("document.getElementById('first-3').scrollIntoView({block: 'center'})");
    browser.settle();
    browser.hover("#first-3 text");
    // Moves of a pointer come with the next frame.
    browser.settle();
    let tip = "document.getElementById('tip').hidden ? '' : document.getElementById('tip').textContent";
    let told = browser.eval(tip);
    assert!(told.as_str().is_some_and(|it| it.starts_with("C2 at 55.000 s: </svg>")), "{told}");

    assert_eq!(browser.eval("document.getElementById('seed-10').open"), false);
    browser.click("#findings a[href='#seed-10']");
    assert!(browser.comes_true("document.getElementById('seed-10').open"), "a link opens its trial");

    assert_eq!(browser.eval("typeof window.hacked"), "undefined", "no text of a record runs");
    assert_eq!(browser.eval("performance.getEntriesByType('resource').length"), 0, "nothing is fetched");
    assert_eq!(browser.post("/se/log", &json!({"type": "browser"})), json!([]), "the browser complains of nothing");
}
