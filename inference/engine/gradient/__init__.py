"""One step's gradient, in four ways: plain, captured, averaged over processes, of all seeds."""
