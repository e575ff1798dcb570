"""Where BinderHub is wrong: of each point, the tests that show it right here, at the member (M) and the gateway (G).

Each is held to name its point in its name or its docstring for a reader; that all of them exist is held here.
"""

import ast
from pathlib import Path

import pytest

HERE = Path(__file__).parent

STORIES = "member/test_upstream_stories.py"
KUBERNETES = "member/kubernetes"
BINDERHUB = "gateway/test_gateway_binderhub_client.py"

#: What BinderHub does, and where it is shown that we do not.
ROWS: dict[str, tuple[str, ...]] = {
    "1. a failed build never closes its stream, and its gauge stays up": (
        f"{STORIES}::test_a_failed_build_closes_its_stream_and_is_no_longer_in_progress",
        f"{BINDERHUB}::test_a_failed_build_whose_stream_never_closes",
    ),
    "2. a quota hit after the build gives two failed events": (
        f"{STORIES}::test_a_quota_met_after_the_build_is_one_event_that_says_so",
        f"{BINDERHUB}::test_a_second_failure_is_not_heard",
    ),
    "3. the health check's retry budget is spent once per process": (
        "member/test_health.py::test_each_check_has_the_same_patience_as_the_first_one",
    ),
    "4. Accept: text/event-stream, */* is rejected": (
        f"{STORIES}::test_an_accept_header_with_several_kinds_is_accepted",
        "frontend/test_frontend_admission.py::test_accept",
    ),
    "5. any unknown path answers 200": (
        f"{STORIES}::test_an_unknown_path_is_not_found",
        "gateway/test_gateway_api.py::test_an_unknown_address_is_told_as_a_problem",
    ),
    "6. the preflight lacks Authorization": (
        f"{STORIES}::test_a_script_of_another_origin_may_send_its_api_token",
        "frontend/test_frontend_app.py::test_cors",
    ),
    "7. a registry error is read as an image that is not there, and causes a build": (
        "member/test_registry_client.py::test_what_is_broken_is_not_absent",
        "member/container/test_image_sharing.py::test_when_ones_own_registry_is_broken_nothing_is_built_whatever_others_have",
        f"{KUBERNETES}/test_kubernetes_builder.py::test_a_registry_that_is_broken_is_not_an_image_that_is_missing",
        "e2e/test_container_builder.py::test_nothing_is_built_while_the_registry_cannot_say",
    ),
    "8. calls to the container engine block the event loop": (
        "member/container/test_engine_client.py::test_no_call_to_the_engine_holds_the_event_loop_up",
    ),
    "9. the build limit counts watchers; no queue position": (
        f"{STORIES}::test_viewers_of_one_build_take_no_slot_and_who_waits_knows_its_place",
        "member/test_build_engine.py::test_builds_wait_in_order_and_are_told_their_places",
    ),
    "10. a DELETED event that is missed between two watches hangs the build; ImagePullBackOff is not noticed": (
        f"{KUBERNETES}/test_kubernetes_builder.py::test_a_deletion_that_no_watch_tells_ends_the_build",
        f"{KUBERNETES}/test_kubernetes_trouble.py::test_a_pull_that_backs_off_between_tries_has_one_patience",
        f"{KUBERNETES}/test_kubernetes_trouble.py::test_what_needs_an_operator_is_given_up_sooner",
    ),
    "11. sticky builds crash without builder pods, or with an unscheduled one": (
        f"{KUBERNETES}/test_kubernetes_trouble.py::test_sticky_builds_go_to_one_ready_node_and_none_is_needed",
    ),
    "12. failed attempts leak users; a client that leaves does not stop its spawn": (
        f"{STORIES}::test_a_launch_that_fails_leaves_no_user",
        f"{STORIES}::test_a_client_that_leaves_stops_its_spawn",
        "gateway/test_gateway_launches.py::test_a_launch_that_nobody_watches_is_given_up_after_a_while",
    ),
    "13. after a cached ready the server closes, so a native EventSource launches again": (
        f"{STORIES}::test_after_a_cached_ready_an_event_source_that_reconnects_launches_nothing",
        "test_upstream_clients.py::test_a_plain_event_source_of_another_origin_launches_once",
    ),
    "14. git and ckan specs reach internal addresses; git ls-remote has no deadline": (
        "providers/test_providers_git.py::test_internal_addresses_are_refused",
        "providers/test_providers_git.py::test_a_redirection_to_an_internal_address",
        "providers/test_providers_git.py::test_a_server_that_is_silent_leaves_no_process",
        "providers/test_providers_archives.py::test_internal_addresses_are_not_asked",
    ),
    "15. specs that differ only in letter case build twice on GitHub": (
        f"{STORIES}::test_specs_that_differ_in_case_only_are_built_once_where_the_host_knows_no_case",
        "providers/test_providers_github.py::test_letter_case_and_git_ending_make_no_second_request",
    ),
    "16. rate limits are per replica, the repo label is unbounded, failures are never logged": (
        "gateway/test_admission.py::test_a_thousand_requests_of_one_client_at_three_replicas_are_limited_as_one",
        f"{STORIES}::test_no_metric_has_a_label_that_visitors_can_grow",
        "member/test_launch_log.py::test_each_launch_is_one_event_however_it_ended",
        "gateway/test_archived_launches.py::test_a_launch_that_failed_is_one_event_that_says_whose_it_was",
    ),
    "17. the notebook token stands in the server's argv, and in the Hub's log": (
        "member/test_hub_real.py::test_nothing_secret_stands_in_an_argv_or_a_log",
        "member/container/test_container_parts.py::test_a_sessions_token_is_in_its_environment_alone",
        "e2e/test_first_launch.py::test_the_notebook_token_is_in_no_log_and_no_argv",
    ),
}


def test_no_point_is_left_out() -> None:
    assert [int(row.partition(".")[0]) for row in ROWS] == list(range(1, 18))
    assert all(ROWS.values())


@pytest.mark.parametrize("row", ROWS)
def test_what_shows_a_point_is_there(row: str) -> None:
    for name in ROWS[row]:
        path, _, function = name.partition("::")
        found = {node.name for node in ast.parse((HERE / path).read_text()).body if hasattr(node, "name")}
        assert function in found, name
