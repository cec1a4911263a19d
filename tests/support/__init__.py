"""What the tests share: transports that count, scripted servers, etcd itself."""
