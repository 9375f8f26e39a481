"""Each call outward fails, once and from then on; each await is cancelled. What may never be, is not."""

import pytest
from courses import COURSES, Course, Planted, Tap, complaints, travel

from gateway.pipeline import exchange

every_course = pytest.mark.parametrize("course", COURSES, ids=[course.name for course in COURSES])


@every_course
def test_without_a_fault_nothing_is_wrong(course: Course) -> None:
    trip = travel(exchange, course, Tap())
    assert list(complaints(trip)) == []
    assert trip.raised is None


@every_course
@pytest.mark.parametrize("kind", [Planted, OSError])
@pytest.mark.parametrize("from_then_on", [False, True])
def test_every_call_outward_fails(course: Course, kind: type[Exception], from_then_on: bool) -> None:
    count = len(travel(exchange, course, Tap()).tap.calls)
    for at in range(count):
        trip = travel(exchange, course, Tap(at, from_then_on, kind))
        assert trip.tap.failed, f"call {at} was not reached"
        found = list(complaints(trip)) if kind is Planted or trip.tap.failed != ["read"] else []
        assert found == [], f"after call {at}, {trip.tap.calls[at]}: {found}"


@every_course
def test_a_client_that_leaves_at_any_await(course: Course) -> None:
    for at in range(1, travel(exchange, course, Tap()).awaits):
        trip = travel(exchange, course, Tap(), leave_at=at)
        assert list(complaints(trip)) == [], f"left at await {at}"
        assert trip.settlements[0].status in (0, trip.answer.status if trip.answer is not None else 0)


@every_course
def test_a_worker_that_stops_at_any_await(course: Course) -> None:
    for at in range(1, travel(exchange, course, Tap()).awaits):
        trip = travel(exchange, course, Tap(), stop_at=at)
        assert list(complaints(trip)) == [], f"stopped at await {at}"


@every_course
def test_a_fault_and_a_client_that_leaves(course: Course) -> None:
    """Both at once, each pair of them."""
    whole = travel(exchange, course, Tap())
    for at in range(len(whole.tap.calls)):
        for leave in range(1, whole.awaits):
            trip = travel(exchange, course, Tap(at), leave_at=leave)
            if trip.tap.failed:
                assert list(complaints(trip)) == [], f"call {at} failed and the client left at await {leave}"
