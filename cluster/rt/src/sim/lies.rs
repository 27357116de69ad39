//! Sentences of the network's model to break on purpose: whoever relies on one must notice (`each_lie_is_noticed` in tests/network).
//! Those about the disk are [`DiskConfig::lies`](super::DiskConfig::lies).

use crate::lies::lies;

lies! {
    /// Switches, each of which breaks one sentence about the simulated network, to show that a check notices.
    pub struct Lies {
        /// Connecting to a host that is dead or cut off is refused, instead of silence.
        dead_host_refuses,
        /// Connecting to a live host without a listener is silence, instead of a refusal.
        missing_listener_is_silent,
        /// That refusal comes at once, instead of after a round trip.
        refusal_is_instant,
        /// Bytes may overtake earlier ones of their direction.
        bytes_overtake,
        /// Links have no delay.
        links_have_no_delay,
        /// Links have no jitter.
        links_have_no_jitter,
        /// Links have no limit to their rate.
        links_have_no_rate,
        /// Both directions of a link are treated as the first one that was configured.
        links_are_not_directed,
        /// A writer may have any number of unread bytes.
        window_is_unbounded,
        /// Lost packets arrive all the same, without delay.
        loss_is_harmless,
        /// Retransmissions come at one interval for ever.
        retransmission_never_backs_off,
        /// Streams are told of a partition, instead of silence.
        partition_resets,
        /// What a partition lost is sent again at the moment it heals, instead of at a retransmission.
        healing_is_noticed_at_once,
        /// Streams never fail however long they are not answered.
        retries_have_no_limit,
        /// The end of a stream crosses a partition.
        close_crosses_partition,
        /// A killed process's sockets stay as they are.
        killed_process_says_nothing,
        /// The news that a process was killed is everywhere at once.
        kill_news_is_instant,
        /// A host that loses power closes its connections first.
        power_loss_closes,
        /// After a reboot packets of old connections are ignored, instead of answered with a reset.
        reboot_is_silent,
        /// The host of a paused process does not take in or acknowledge what arrives.
        paused_kernel_stops,
        /// What enters a held link arrives all the same.
        hold_leaks,
        /// Looking up a name takes no time.
        resolver_is_instant,
        /// Names resolve to the host that was added next.
        resolver_is_wrong,
        /// Connections go where they were asked for, whatever a service proxy has set.
        redirects_are_ignored,
        /// Added addresses, redirects and names are still there after a reboot.
        what_a_kernel_was_told_outlives_a_reboot,
        /// A listener on all of a host's addresses is heard at its added ones too.
        added_addresses_are_the_hosts_own,
        /// Connections with a fuse are never reset.
        fuses_never_blow,
        /// What the acceptor of a connection with a fuse writes arrives, and only then it is reset.
        what_blows_a_fuse_arrives,
        /// What is withheld arrives all the same.
        what_is_withheld_arrives,
        /// Where something is withheld from one, it is from all who could have been chosen.
        all_is_withheld,
    }
}
