def test_order_arrives(node):
    node.apogee("produce", "orders", "one coffee", "--key", "table-7")
    got = node.apogee("consume", "orders", "--max", "1")
    assert [(m["body"], m["keys"]) for m in got] == [("one coffee", ["table-7"])]
