//! What is wrong with probes and hooks of a container, and with what they do.

use super::super::errors::{Errors, Path, list, text};
use super::containers::{validate_port, validate_port_number};
use crate::core::v1::{
    Container, ExecAction, GRPCAction, HTTPGetAction, Lifecycle, LifecycleHandler, Probe, SleepAction, TCPSocketAction,
};
use crate::names;

/// What only a container that runs along with the pod may have.
pub(super) fn validate(container: &Container, grace_seconds: i64, path: &Path<'_>, errors: &mut Errors) {
    if let Some(lifecycle) = &container.lifecycle {
        validate_lifecycle(lifecycle, grace_seconds, &path.child("lifecycle"), errors);
    }
    for (name, probe) in [
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
        ("startupProbe", &container.startup_probe),
    ] {
        let Some(probe) = probe else { continue };
        let path = path.child(name);
        validate_probe(probe, grace_seconds, &path, errors);
        let grace = path.child("terminationGracePeriodSeconds");
        if name != "readinessProbe" && probe.success_threshold != Some(1) {
            let value = probe.success_threshold.unwrap_or_default();
            errors.invalid(&path.child("successThreshold"), value, "must be 1");
        }
        match probe.termination_grace_period_seconds {
            Some(seconds) if name == "readinessProbe" => {
                errors.invalid(&grace, seconds, "must not be set for readinessProbes");
            }
            Some(seconds) if seconds <= 0 => errors.invalid(&grace, seconds, "must be greater than 0"),
            Some(_) | None => {}
        }
    }
}

fn validate_lifecycle(lifecycle: &Lifecycle, grace_seconds: i64, path: &Path<'_>, errors: &mut Errors) {
    let hook = |handler: &LifecycleHandler, path: &Path<'_>, errors: &mut Errors| {
        let handler = Handler {
            exec: handler.exec.as_ref(),
            http: handler.http_get.as_ref(),
            tcp: handler.tcp_socket.as_ref(),
            grpc: None,
            sleep: handler.sleep.as_ref(),
        };
        validate_handler(&handler, grace_seconds, path, errors);
    };
    if let Some(handler) = &lifecycle.post_start {
        hook(handler, &path.child("postStart"), errors);
    }
    if let Some(handler) = &lifecycle.pre_stop {
        hook(handler, &path.child("preStop"), errors);
    }
}

fn validate_probe(probe: &Probe, grace_seconds: i64, path: &Path<'_>, errors: &mut Errors) {
    let handler = Handler {
        exec: probe.exec.as_ref(),
        http: probe.http_get.as_ref(),
        tcp: probe.tcp_socket.as_ref(),
        grpc: probe.grpc.as_ref(),
        sleep: None,
    };
    validate_handler(&handler, grace_seconds, path, errors);
    for (name, value) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        errors.non_negative(&path.child(name), value.unwrap_or_default());
    }
}

/// What a probe or a hook does; it should be one thing.
struct Handler<'a> {
    exec: Option<&'a ExecAction>,
    http: Option<&'a HTTPGetAction>,
    tcp: Option<&'a TCPSocketAction>,
    grpc: Option<&'a GRPCAction>,
    sleep: Option<&'a SleepAction>,
}

fn validate_handler(handler: &Handler<'_>, grace_seconds: i64, path: &Path<'_>, errors: &mut Errors) {
    let given = [
        ("exec", handler.exec.is_some()),
        ("httpGet", handler.http.is_some()),
        ("tcpSocket", handler.tcp.is_some()),
        ("grpc", handler.grpc.is_some()),
        ("sleep", handler.sleep.is_some()),
    ];
    let given: Vec<&str> = given.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect();
    let Some(first) = given.first() else {
        errors.required(path, "must specify a handler type");
        return;
    };
    for extra in &given[1..] {
        errors.forbidden(&path.child(extra), "may not specify more than 1 handler type");
    }
    let path = path.child(first);
    match (handler.exec, handler.http, handler.tcp, handler.grpc, handler.sleep) {
        (Some(exec), ..) => {
            if list(&exec.command).is_empty() {
                errors.required(&path.child("command"), "");
            }
        }
        (_, Some(http), ..) => validate_http(http, &path, errors),
        (_, _, Some(tcp), ..) => validate_port(&tcp.port, &path.child("port"), errors),
        (_, _, _, Some(grpc), _) => validate_port_number(grpc.port, &path.child("port"), errors),
        (_, _, _, _, Some(sleep)) => {
            if !(0..=grace_seconds).contains(&sleep.seconds) {
                let why =
                    format!("must be non-negative and less than terminationGracePeriodSeconds ({})", grace_seconds);
                errors.invalid(&path, sleep.seconds, &why);
            }
        }
        (None, None, None, None, None) => {}
    }
}

fn validate_http(http: &HTTPGetAction, path: &Path<'_>, errors: &mut Errors) {
    if text(&http.path).is_empty() {
        errors.required(&path.child("path"), "");
    }
    validate_port(&http.port, &path.child("port"), errors);
    let scheme = text(&http.scheme);
    if !matches!(scheme, "HTTP" | "HTTPS") {
        errors.not_supported(&path.child("scheme"), scheme, &["HTTP", "HTTPS"]);
    }
    for header in list(&http.http_headers) {
        errors.texts(&path.child("httpHeaders"), &header.name, names::http_header(&header.name));
    }
}
