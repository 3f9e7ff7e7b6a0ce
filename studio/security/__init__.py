"""Who may do what: users, logins, the guard before every request."""
