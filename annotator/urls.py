from django.contrib import admin
from django.contrib.auth.views import LogoutView
from django.urls import URLPattern, URLResolver, include, path

from annotator.views import accounts, campaigns, datasets, home, imports, jobs, label, learning, members

campaign: list[URLPattern | URLResolver] = [
    path("", campaigns.overview, name="campaign"),
    path("live/", campaigns.overview_live, name="campaign_live"),
    path("status/", campaigns.set_status, name="campaign_status"),
    path("settings/", campaigns.settings, name="campaign_settings"),
    path("guideline/", campaigns.guideline, name="guideline"),
    path("label/", label.label, name="label"),
    path("members/", members.members, name="members"),
    path("members/<int:pk>/state/", members.set_state, name="member_state"),
    path("members/<int:pk>/password/", members.renew_password, name="member_password"),
    path("imports/", imports.imports, name="imports"),
    path("imports/<int:pk>/", imports.import_run, name="import"),
    path("imports/<int:pk>/live/", imports.import_live, name="import_live"),
    path("imports/<int:pk>/undo/", imports.undo, name="import_undo"),
    path("jobs/", jobs.jobs, name="jobs"),
    path("jobs/live/", jobs.jobs_live, name="jobs_live"),
    path("jobs/<int:pk>/retry/", jobs.retry, name="job_retry"),
    path("jobs/<int:pk>/cancel/", jobs.cancel, name="job_cancel"),
    path("generations/", learning.generations, name="generations"),
    path("generations/<int:number>/", learning.generation, name="generation"),
    path("items/<int:pk>/", learning.queue_item, name="queue_item"),
    path("checkpoints/", learning.checkpoints, name="checkpoints"),
    path("checkpoints/<int:number>/", learning.checkpoint, name="checkpoint"),
    path("datasets/", datasets.datasets, name="datasets"),
    path("datasets/<int:number>/", datasets.dataset, name="dataset"),
    path("datasets/<int:number>/download/", datasets.download, name="dataset_download"),
]

urlpatterns = [
    path("", home.home, name="home"),
    path("accounts/login/", accounts.LoginView.as_view(), name="login"),
    path("accounts/logout/", LogoutView.as_view(), name="logout"),
    path("accounts/password/", accounts.PasswordChangeView.as_view(), name="password_change"),
    path("campaigns/new/", campaigns.create, name="campaign_create"),
    path("c/<slug:slug>/", include(campaign)),
    path("api/", include("annotator.api.urls")),
    path("admin/", admin.site.urls),
]
