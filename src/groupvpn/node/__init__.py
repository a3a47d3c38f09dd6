"""The running router: event loop, sockets, timers, syslog, control socket and persistent state."""
