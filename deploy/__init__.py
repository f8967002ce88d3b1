"""Commands and the supervisor: start the other packages as processes and watch them; on no message's road."""
