"""Logs in, writes, reads and counts with pymongo and with mongoengine."""
import sys
import mongoengine
import pymongo

uri = sys.argv[1]
db = pymongo.MongoClient(uri, serverSelectionTimeoutMS=5000).get_default_database()
db.items.insert_many([{"n": i} for i in range(300)])
assert db.items.count_documents({"n": {"$lt": 10}}) == 10
assert len(list(db.items.find().sort("n", -1))) == 300
assert db.list_collection_names() == ["items"]
try:
    pymongo.MongoClient(uri.replace("s3cret", "wrong"), serverSelectionTimeoutMS=5000).get_default_database().items.find_one()
    sys.exit("a wrong password was let in")
except pymongo.errors.OperationFailure as err:
    assert err.code == 18, err


class Page(mongoengine.Document):
    title = mongoengine.StringField(required=True)
    meta = {"auto_create_index": False}


mongoengine.connect(host=uri)
Page(title="one").save()
page = Page.objects(title="one").first()
page.title = "two"
page.save()
assert Page.objects.count() == 1 and Page.objects.first().title == "two"
page.delete()
assert Page.objects.count() == 0
print("ok")
