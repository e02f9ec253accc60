"""``inference serve``: the same as ``ask`` on a web page."""
