//! The contract of the event store: every case runs against every adapter, on a database of its own.

mod contract {
    pub mod append;
    pub mod cluster;
    pub mod commands;
    pub mod faults;
    pub mod follow;
    pub mod importing;
    pub mod leases;
    pub mod log;
    pub mod opening;
    pub mod order;
    pub mod proxy;
}

macro_rules! cases {
    ($($module:ident: $($case:ident)+;)+) => {
        mod sqlite {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $case() {
                    crate::contract::$module::$case(crate::contract::log::Log::sqlite()).await;
                }
            )+)+
        }

        mod eventstore {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $case() {
                    crate::contract::$module::$case(crate::contract::log::Log::eventstore().await).await;
                }
            )+)+
        }

        mod postgres {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $case() {
                    crate::contract::$module::$case(crate::contract::log::Log::postgres().await).await;
                }
            )+)+
        }
    };
}

cases! {
    append:
        events_come_back_in_order_and_byte_for_byte
        an_exact_version_lets_one_of_many_in
        any_and_exists_append_to_whatever_is_there
        appends_to_one_stream_go_into_one_batch_one_after_another
        what_waits_behind_an_append_that_came_too_late_is_chained_to_what_is_there
        one_bad_append_among_many_is_refused_alone
        what_could_not_be_read_back_is_refused_before_it_is_written
        hostile_and_unicode_stream_ids_are_only_names
        a_stream_of_100_000_events_is_read_back_in_pages
        dropping_an_append_does_not_undo_it
        a_full_queue_refuses_instead_of_growing;
    commands:
        a_repeated_command_gets_its_first_answer_from_any_process_and_after_reopening
        a_command_twice_in_one_batch_is_appended_once
        a_command_on_another_stream_is_refused
        the_same_commands_raced_by_two_processes_are_appended_once
        a_failed_command_may_be_tried_again;
    order:
        readers_skip_nothing_while_sixteen_writers_append_and_some_commits_are_slow
        a_page_never_passes_an_append_that_is_not_committed
        filters_leave_out_the_rest_and_still_move_on;
    follow:
        following_catches_up_and_then_hears_of_other_processes
        following_from_beyond_the_head_is_refused
        waiting_ends_with_an_append_or_with_patience;
    importing:
        streams_are_listed_by_name_and_events_found_by_id
        a_log_moves_whole_into_an_empty_one_of_each_kind
        what_is_no_whole_log_is_not_imported;
    faults:
        appends_wait_for_a_lock_that_is_held_long
        what_was_answered_is_there_after_reopening;
    leases:
        a_lease_has_one_holder_and_its_fence_rises
        a_lease_that_ran_out_is_taken_over
        the_relays_checkpoint_is_kept_and_fenced;
    opening:
        many_processes_make_one_log
        a_newer_format_is_refused_by_naming_what_it_needs
        reading_only_makes_nothing_and_appends_nothing
        a_log_keeps_its_identity_and_partitions;
}

mod postgres_only {
    use crate::contract::{faults, log::Log, opening};

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn killed_connections_lose_and_repeat_nothing() {
        faults::killed_connections_lose_and_repeat_nothing(Log::postgres().await).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_commit_whose_answer_is_lost_is_found_and_not_repeated() {
        faults::a_commit_whose_answer_is_lost_is_found_and_not_repeated(Log::postgres().await)
            .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_batch_that_never_arrived_is_sent_again() {
        faults::a_batch_that_never_arrived_is_sent_again(Log::postgres().await).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn appends_outlive_a_crash_of_the_server() {
        faults::appends_outlive_a_crash_of_the_server().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_server_that_was_set_back_is_noticed() {
        faults::a_server_that_was_set_back_is_noticed(Log::postgres().await).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_server_that_forgets_commits_is_refused() {
        opening::a_server_that_forgets_commits_is_refused(Log::postgres().await).await;
    }
}

mod eventstore_only {
    use crate::contract::cluster;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn nodes_that_die_or_fall_silent_lose_and_repeat_nothing() {
        cluster::nodes_that_die_or_fall_silent_lose_and_repeat_nothing().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn logs_of_different_names_on_one_server_know_nothing_of_each_other() {
        cluster::logs_of_different_names_on_one_server_know_nothing_of_each_other().await;
    }
}

mod urls {
    use crate::contract::opening;

    #[tokio::test]
    async fn a_url_that_names_no_store_says_what_to_write() {
        opening::a_url_that_names_no_store_says_what_to_write().await;
    }
}
