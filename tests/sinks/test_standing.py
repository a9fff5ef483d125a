"""What is in force at a camera, by the changes that were told."""

from device.events import UNAVAILABLE
from device.sinks.standing import Standing, headline
from tests.sinks.examples import change


def test_one_label_takes_the_place_of_another() -> None:
    first = Standing()
    assert (first.label("seen"), first.since("seen")) == ("seen", None)
    cat = first.after(change(label="cat", at=1.0))
    dog = cat.after(change(label="dog", at=2.0))
    # The frame that made the change may come later.
    assert (dog.label("cat"), dog.since("dog")) == ("dog", 2.0)
    nothing = dog.after(change(label="unknown", at=3.0))
    assert (nothing.label("dog"), nothing.since("unknown")) == ("unknown", 3.0)
    gone = nothing.after(change(label=UNAVAILABLE, at=4.0))
    assert (gone.label("unknown"), gone.since(UNAVAILABLE)) == (UNAVAILABLE, 4.0)


def test_of_many_labels_each_has_its_own_beginning() -> None:
    cat = Standing(nothing="nobody").after(change(label="cat", at=1.0))
    both = cat.after(change(label="dog", at=2.0, active=("cat", "dog")))
    assert (both.since("cat"), both.since("dog")) == (1.0, 2.0)
    assert (both.label("dog"), both.label(None)) == ("dog", "cat")
    dog = both.after(change(label="cat", at=3.0, on=False, active=("dog",)))
    assert (dog.label("cat"), dog.since("dog")) == ("dog", 2.0)
    none = dog.after(change(label="dog", at=4.0, on=False, active=()))
    assert (none.label("dog"), none.since("nobody")) == ("nobody", 4.0)


def test_the_headline_names_three() -> None:
    assert headline("cat", ()) == headline("cat", ("cat",)) == "cat"
    assert headline("cat", ("cat", "dog", "cup")) == "cat + dog + cup"
    assert headline("cat", ("cat", "dog", "cup", "car", "bus")) == "cat + dog + cup + 2 more"
