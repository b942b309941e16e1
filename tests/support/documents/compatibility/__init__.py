"""The features of the clients' formats, sent through every provider format, and the page that shows the result."""
