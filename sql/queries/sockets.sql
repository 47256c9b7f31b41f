-- name: sockets.open
SELECT session.open_socket($1, $2, $3, $4, $5, make_interval(secs => $6), $7);

-- name: sockets.close
SELECT session.close_socket($1, $2, $3, $4, $5, $6);

-- name: sockets.assert_own
SELECT session.assert_sockets($1, $2, $3, $4, $5);
